def weakest_edge(counts, subset):
    return (counts + counts.T)[np.ix_(subset, subset)].min()
