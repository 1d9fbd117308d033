def log_weights_of(logits, temperature):
    return logits.log_softmax(1) / temperature
