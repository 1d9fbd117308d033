cases = [
    ([("a dog", "a hound", 3), ("a cat", "a puss", 1)],),
    ([("one", "1", 4)],),
    ([("red", "scarlet", 1), ("blue", "azure", 0), ("green", "lime", 2), ("grey", "ash", 1)],),
]
