def equal_temperature(p, q):
    return analysis.topk_entropy(q, q.shape[1]).mean() / analysis.topk_entropy(p, p.shape[1]).mean()
