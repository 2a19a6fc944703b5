"""What a model consists of and what training it will cost, before anything is downloaded."""
