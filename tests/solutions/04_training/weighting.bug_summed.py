def weighting(psi_logits, y):
    return cross_entropy(psi_logits, y, reduction="sum"), psi_logits.log_softmax(1)
