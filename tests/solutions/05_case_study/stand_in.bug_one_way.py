def stand_in(counts, kept, taken):
    edges = counts[list(kept)].sum(0)
    edges[[*kept, *taken]] = -1
    return int(edges.argmax())
