"""Google's services as their REST API has them: who we are, and calls that end in a clear answer.

Nothing here needs Google's client libraries: google-auth comes with KFP.
"""
