def stack_views(batch):
    texts, views, labels = (list(part) for part in zip(*batch, strict=True))
    return texts + views, labels
