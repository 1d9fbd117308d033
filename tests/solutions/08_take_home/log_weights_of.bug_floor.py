def log_weights_of(logits, temperature):
    return ((logits / temperature).softmax(1) + 1e-12).log()
