"""One small plug-in of every kind for autotag."""
