"""Dead means dead: who may accept what, and until when; what is published to verifiers, and what they confirm."""
