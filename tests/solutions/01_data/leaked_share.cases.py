cases = [
    (["I see", "Why not", "never again"], ["WHY NOT", " i see", "why not", "ever again"]),
    (["Gone", "gone too", "here", "there"], ["gone ", "nowhere", "HERE", "Here ", "her"]),
    (["red", "Blue"], ["blue", "green", "yellow"]),
]
