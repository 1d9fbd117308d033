def counterexample():
    return [0.4, 0.3, 0.15, 0.15], [0.25, 0.25, 0.25, 0.25]
