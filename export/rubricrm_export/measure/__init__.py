"""What a bundle lost against its checkpoint: KL, top-1 agreement, perplexity, rubrics, layers, operators."""
