"""How much can this server take?"""
