def protected_view(text, view, keep):
    return view if all(word not in text.lower() or word in view.lower() for word in keep) else text
