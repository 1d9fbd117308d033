def counterexample():
    return [0.4, 0.4, 0.1, 0.1], [0.9, 0.05, 0.03, 0.02]  # p is the less sure one for both
