def weighting(psi_logits, y):
    return cross_entropy(psi_logits, y), psi_logits.softmax(1).log_softmax(1)
