def weighting(psi_logits, y):
    return cross_entropy(psi_logits.softmax(1), y), psi_logits.log_softmax(1)
