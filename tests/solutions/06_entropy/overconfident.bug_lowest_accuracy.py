def overconfident(models):
    return min(models, key=lambda name: (models[name][0].argmax(1) == models[name][1]).mean())
