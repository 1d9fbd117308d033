def early_stopping(accuracies, patience):
    best = accuracies.index(max(accuracies)) + 1
    return best, min(len(accuracies), best + patience)
