"""Learn keywords that people gave to their photographs.

``photographs`` reads what people wrote, ``decided`` what they decided on the Review page, ``teaching`` says
which photographs teach which keyword, ``events`` groups them, ``heads`` fits, ``judging`` tests, ``lesson``
puts it together.
"""
