def weighting(psi_logits, y):
    return cross_entropy(psi_logits, y), psi_logits
