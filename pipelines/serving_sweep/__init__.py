"""Which serving parameters are best?"""
