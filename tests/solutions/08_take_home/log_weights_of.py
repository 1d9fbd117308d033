def log_weights_of(logits, temperature):
    return (logits / temperature).log_softmax(1)
