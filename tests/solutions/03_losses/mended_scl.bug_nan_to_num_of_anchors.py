def mended_scl(h, y, tau):
    positives = positives_of(y)
    count = positives.sum(1)
    log_share = others_only(h @ h.T / tau).log_softmax(1)
    total = -(log_share * positives).sum(1)
    return (total / count).nan_to_num().mean()
