def weighting(psi_logits, y):
    # cross_entropy and log_softmax have their softmax inside: both take logits.
    return cross_entropy(psi_logits, y), psi_logits.log_softmax(1)
