"""The models that stages use: ``cards`` (facts about published weights), ``names`` and ``pool``.

``names.check_model`` and ``names.parse_name`` are public: plug-in stages check their models with
them.
The order of the sub-packages is ``loading``, ``fast``, then ``captioners``, ``encoders`` and ``extractors``;
each imports only earlier ones. Only this package and ``training`` import torch.
"""
