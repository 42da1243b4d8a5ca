"""What a run leaves behind to be read: its page, its model card, and how it shows itself in a notebook."""
