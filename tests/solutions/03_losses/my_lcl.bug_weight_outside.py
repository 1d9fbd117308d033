def my_lcl(h, y, log_w, tau):
    n = len(h)
    itself = torch.eye(n, dtype=torch.bool)
    logits = (h @ h.T / tau).masked_fill(itself, -math.inf)
    own = log_w.gather(1, y[:, None])
    logits = logits + log_w[:, y] - own
    log_share = logits.log_softmax(1)
    positives = (y[:, None] == y) & ~itself
    count = positives.sum(1)
    return (
        -(own.exp() * log_share).where(positives, 0).sum(1)[count > 0] / count[count > 0]
    ).mean()
