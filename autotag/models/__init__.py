"""Models that stages borrow: ``cards`` (what is known of published weights), ``names`` and ``pool``.

``names.check_model`` and ``names.parse_name`` are public: plug-in stages check their models with them.
Sub-packages go from ``loading`` over ``fast`` to ``captioners``, ``encoders`` and ``extractors``, each
importing only those before it. Besides ``training`` the only package that imports torch.
"""
