def stand_in(counts, kept, taken):
    free = [c for c in range(len(counts)) if c not in (*kept, *taken)]
    return max(
        free, key=lambda c: counts[np.ix_((*kept, c), (*kept, c))].sum()
    )  # with the diagonal
