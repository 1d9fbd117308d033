def overconfident(models):
    return min(models, key=lambda name: analysis.topk_entropy(models[name][0], 5).mean())
