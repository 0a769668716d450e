"""What a bundle needs to run: manifest, tokenizer, prompt, session, providers, KV cache, prefix."""
