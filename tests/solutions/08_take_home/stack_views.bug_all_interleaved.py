def stack_views(batch):
    strings = [string for text, view, _ in batch for string in (text, view)]
    return strings, [label for *_, label in batch for _ in range(2)]
