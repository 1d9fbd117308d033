def counterexample():
    return [.4, .4, .1, .1], [.9, .05, .03, .02]        # p is the less sure one for both
