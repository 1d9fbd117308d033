def log_weights_of(logits, temperature):
    return (logits / temperature).softmax(1).log_softmax(1)
