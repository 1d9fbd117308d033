def weighting(psi_logits, y):
    w = psi_logits.softmax(1)
    return torch.nn.functional.nll_loss(w, y), psi_logits.log_softmax(1)
