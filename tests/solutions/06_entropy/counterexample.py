def counterexample():
    return [.25, .25, .25, .25], [.4, .3, .15, .15]
