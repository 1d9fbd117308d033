def equal_temperature(p, q):
    from scipy.optimize import brentq

    wanted, k = analysis.topk_entropy(p, p.shape[1]).mean(), q.shape[1]  # the temperature for q
    return brentq(
        lambda t: analysis.topk_entropy(apply_temperature(q, t), k).mean() - wanted,
        0.01,
        100,
    )
