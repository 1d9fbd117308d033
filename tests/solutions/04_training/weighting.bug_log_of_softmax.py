def weighting(psi_logits, y):
    log_w = psi_logits.softmax(1).log()
    return cross_entropy(log_w, y), log_w
