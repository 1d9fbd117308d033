def stack_views(batch):
    texts, views, labels = (list(part) for part in zip(*batch, strict=True))
    return texts + views, [label for label in labels for _ in range(2)]
