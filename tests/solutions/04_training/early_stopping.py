def early_stopping(accuracies, patience):
    best = 1
    for epoch, accuracy in enumerate(accuracies, start=1):
        if accuracy > accuracies[best - 1]:
            best = epoch
        if epoch - best >= patience:
            break
    return best, epoch
