def counterexample():
    return [.1, .1, .1, .1], [.4, .3, .15, .15]
