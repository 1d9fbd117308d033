def equal_temperature(p, q):
    from scipy.optimize import brentq

    wanted, k = analysis.topk_entropy(q, q.shape[1]).mean(), p.shape[1]
    return brentq(
        lambda t: analysis.topk_entropy(apply_temperature(p, t), k).mean() - wanted,
        0.01,
        100,
    )
