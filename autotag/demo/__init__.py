"""The page for people: tabs that write prompts, analyze, tag, work through many photographs, and search.

``page`` is the Gradio page, ``batch`` works through files and zips, ``uploads`` reads them safely,
``reasons`` says where a tag comes from, ``search_tab`` is the tab Search and ``searched_index`` its index,
``mounting`` puts the page into the server. Needs the extra ``autotag-images[ui]``.
"""
