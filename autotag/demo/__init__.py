"""The page for people: tabs that write prompts, analyze, tag, and work through many photographs.

``page`` is the Gradio page, ``batch`` works through files and zips, ``uploads`` reads them safely,
``reasons`` says where a tag comes from, ``mounting`` puts the page into the server. Needs the extra
``autotag-images[ui]``.
"""
