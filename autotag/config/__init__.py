"""What a configuration may say: names of parts, their options, the values of an option, fast paths.

Every package above imports from here; of autotag it imports only ``errors``.
"""
