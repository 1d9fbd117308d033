def mended_scl(h, y, tau):
    has = positives_of(y).any(1)
    h, y = h[has], y[has]
    positives = positives_of(y)
    log_share = others_only(h @ h.T / tau).log_softmax(1)
    return -((log_share * positives).sum(1) / positives.sum(1)).mean()
