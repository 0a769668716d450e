"""A Hugging Face directory: what it is, its config, tensors, tokenizer files, chat template and stop ids."""
