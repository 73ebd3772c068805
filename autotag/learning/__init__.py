"""Learn keywords that people gave to their photographs.

``photographs`` reads what people wrote, ``decided`` what they decided on the Review page or in a plan,
``written`` what runs wrote, ``teaching`` says which photographs teach which keyword, ``events`` groups them,
``heads`` fits, ``judging`` tests, ``lesson`` puts it together.
"""
