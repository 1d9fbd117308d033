def counterexample():
    return [.4, .3, .15, .15], [.25, .25, .25, .25]
