new_h = normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(29)))
cases = [
    (new_h, torch.tensor([1, 0, 1, 3, 0, 1, 2, 0]), 0.3),  # two are alone
    (new_h[:6], torch.tensor([0, 0, 2, 2, 0, 1]), 0.1),
]
